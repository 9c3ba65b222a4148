"""Open Inference Protocol v2, as the clients of KServe and Triton speak it. A model is a head."""
