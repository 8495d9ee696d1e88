"""gRPC and Thrift, both sides."""
