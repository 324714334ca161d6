SELECT bool_and(epoch > 0) AND count(*) > 0 FROM projections.checkpoint
