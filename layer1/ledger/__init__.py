"""The replicated state machine of layer 1: accounts, groups, and the settlement of groups."""
