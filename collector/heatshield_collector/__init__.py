"""The collector: takes in what services send, links it by request, finds who burns, and acts."""
