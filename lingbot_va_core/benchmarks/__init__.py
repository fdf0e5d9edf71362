"""Speed and memory of the model's parts, each measured beside a baseline on the same weights in the same run."""
