"""The work of Stillroom: stages as functions from files to files. Imports no orchestrator."""
