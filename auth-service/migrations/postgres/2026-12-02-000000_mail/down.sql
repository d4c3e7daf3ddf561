DROP TABLE mail_quota;
DROP TABLE mail_outbox;
DROP TABLE mail_requests;
DROP TABLE account_codes;
ALTER TABLE users DROP COLUMN email_verify_time;
ALTER TABLE users DROP COLUMN locale;
