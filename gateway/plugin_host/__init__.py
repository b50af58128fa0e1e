"""Entry points -> classes -> plugins whose hooks are bound once and called under a guard."""
