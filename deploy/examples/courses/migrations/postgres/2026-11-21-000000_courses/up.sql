CREATE TABLE courses (
    course_id TEXT NOT NULL PRIMARY KEY,
    title TEXT NOT NULL,
    duration_minutes INTEGER NOT NULL CHECK (duration_minutes > 0)
);

INSERT INTO courses (course_id, title, duration_minutes) VALUES
    ('forks', 'Forks, and how to see them coming', 40),
    ('openings', 'Openings: the centre, a corner, an edge', 25),
    ('perfect-play', 'Perfect play by minimax', 90);
