"""KD methods: one file each, a pure function and then a thin module. See README, «Add a method»."""
