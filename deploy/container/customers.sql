-- Sample customers, of whom two have the same phone number. Replace this by your own database.
CREATE TABLE customers (
    customer_uid text PRIMARY KEY,
    phone text NOT NULL,
    name text NOT NULL,
    balance numeric(12, 2) NOT NULL,
    due_date date
);
CREATE INDEX customers_phone ON customers (phone);
INSERT INTO customers VALUES
    ('123456', '44777777777', 'Siobhan Walsh', 120.50, '2026-09-01'),
    ('200001', '447700900200', 'Mary Byrne', 45.10, '2026-09-20'),
    ('200002', '447700900200', 'John Byrne', 310.00, '2026-10-05');
