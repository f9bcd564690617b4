"""The scripted scenarios, a file for each subject."""
