"""HTTP servers: one span a request, its user, its route, admitted or refused."""
