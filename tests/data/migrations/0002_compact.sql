-- strongroom: outside-transaction, repeatable
VACUUM;
