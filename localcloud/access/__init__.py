"""Who may do what: IAM, resource and key policies, enforced where AWS enforces them."""
