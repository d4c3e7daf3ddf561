DROP TABLE email_reminders;
DROP TABLE email_requirement;
DROP TABLE email_undos;
DELETE FROM account_codes WHERE purpose <> 'password_reset';
DELETE FROM mail_outbox WHERE kind NOT IN ('password_reset', 'password_changed');
ALTER TABLE account_codes DROP COLUMN email;
ALTER TABLE users DROP COLUMN email_set_time;
