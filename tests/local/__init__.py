"""The whole service on one machine, in one process, with moto in place of AWS: `make run` and the integration tests."""
