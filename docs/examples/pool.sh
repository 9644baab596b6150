hvo 1; pool 120; snap grown
$bb mount -t hugetlbfs none /huge
$bb fallocate -l $((10 * 2097152)) /huge/file; snap ten-used
hvo 0; pool 5; snap the-used-ones-are-surplus
