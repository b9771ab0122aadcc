"""Results that one stage of the pipeline passes to the next: small frozen values, never tensors or open files."""
