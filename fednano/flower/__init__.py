"""The ServerApp, the ClientApp and the virtual grid that joins them."""
