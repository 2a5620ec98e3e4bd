"""The files of publishers of traces, as they are downloaded: one module for each."""
