DROP TABLE before;
