"""What `tools/setup.sh` is made of; nothing here needs .venv."""
