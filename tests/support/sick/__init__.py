"""What is on PYTHONPATH where a disk becomes sick."""
