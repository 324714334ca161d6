-- Entries and rejections lie apart in the key, so that no number of rejections makes a page of entries slow.
ALTER TABLE projections.statements_v{version} ADD PRIMARY KEY (owner_id, accepted, sequence)
