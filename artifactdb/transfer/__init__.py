"""Workspaces as wholes: one file for the post, and two that become one."""
