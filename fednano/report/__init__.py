"""What people see of a run: the console, the HTML report, Weights & Biases, the audit."""
