"""REST: transport only. Plain ASGI, because a framework costs more than the model on small requests."""
