"""The node library, a function per node, a file per subject."""
