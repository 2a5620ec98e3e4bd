"""The share of the clients' time that becomes tokens of the global model: under churn, and over thin links."""
