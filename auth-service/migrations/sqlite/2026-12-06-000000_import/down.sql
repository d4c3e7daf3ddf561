DROP TABLE user_imports;
DROP TABLE imported_passwords;
