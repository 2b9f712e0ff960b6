"""What all attacks share: addresses, figures, wire, memory limit, worker processes."""
