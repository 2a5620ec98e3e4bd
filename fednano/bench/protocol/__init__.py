"""The cost of the protocol in addition to training, and the cost of replies that no honest client sends."""
