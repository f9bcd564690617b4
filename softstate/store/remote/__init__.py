"""The parts that engines over a network share."""
