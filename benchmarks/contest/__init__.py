"""hasten against its peers: artefacts built in an environment of their own, all judged and timed by the same code."""
