"""Random graphs of many operators, with free sizes, branches and loops; and inputs that reach their edges."""
