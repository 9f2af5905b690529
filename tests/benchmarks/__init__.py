"""Speed and size against what else there is: ratios measured side by side in one run, printed as one table."""
