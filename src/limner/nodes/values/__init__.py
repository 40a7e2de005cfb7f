"""Nodes that hand on, choose and reckon with numbers, texts and switches."""
