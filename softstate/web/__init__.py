"""The client for browsers and Node.js: plain ES modules, which every node serves."""
