"""Servers that users of libraries would write, as small as they can be, for `bench peers`."""
