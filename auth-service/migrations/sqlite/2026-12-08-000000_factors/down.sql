DROP TABLE recovery_codes;
DROP TABLE totp_factors;
DROP TABLE login_challenges;
ALTER TABLE users DROP COLUMN has_second_factor;
