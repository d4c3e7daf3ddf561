SELECT fin();
