"""The client's Trio shell: sockets, HTTP and clocks for the machine."""
