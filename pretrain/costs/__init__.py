"""What a step costs: memory and work counted, time measured."""
