"""Patients' contact preferences, and the decision of whether, where and how each message goes.

Import arrows point one way: pure <- shapes <- I/O <- functions.
"""
