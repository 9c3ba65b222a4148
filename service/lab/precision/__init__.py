"""Makes heads that compute in int8."""
