"""How the machine is watched while a level is measured."""
