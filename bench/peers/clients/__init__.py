"""Client libraries while servers and networks fail: official ones of other systems, and softstate's."""
