"""The lessons of the field, runnable: each states a property, shows it, and shows what it rests on.

`python -m examples.replication` lists them.
"""
