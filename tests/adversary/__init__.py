"""What people find who want to break things: each test is a fault that was found, and its cousins."""
