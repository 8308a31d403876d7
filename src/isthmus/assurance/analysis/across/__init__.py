"""What no single cluster shows: networks, remote secrets, trust, and clusters that should agree and do not."""
