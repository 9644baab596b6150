hvo 1; pool 120; snap grown
pool 70; snap shrunk
