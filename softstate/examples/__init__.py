"""Programs of a screen each that show one way to use softstate; tests run them, against a node that is killed midway.

Run one against a node of your own (``softstate serve``): ``python -m softstate.examples.follow``. The frameworks that
some of them use come with ``pip install '.[examples]'``.
"""
