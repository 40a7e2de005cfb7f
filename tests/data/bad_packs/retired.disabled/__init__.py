raise RuntimeError("not wanted")
