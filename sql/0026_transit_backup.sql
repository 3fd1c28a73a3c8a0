-- A leave that nothing takes: keys are not handed out as a backup. What may be exported says so itself.
ALTER TABLE bulla.transit_keys DROP COLUMN plaintext_backup;
