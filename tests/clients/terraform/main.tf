terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "3.39.0"
    }
  }
}

provider "aws" {
  # Credentials and region are in the environment; a plain name in place of AWS's services needs no more.
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  endpoints {
    ec2 = var.endpoint
    sts = var.endpoint
  }
}

variable "endpoint" { type = string }
variable "port" { type = number }
variable "team" { type = string }
variable "interface" { type = bool }

resource "aws_vpc" "net" {
  cidr_block = "10.50.0.0/16"
  tags       = { Name = "terraform" }
}

resource "aws_subnet" "net" {
  vpc_id     = aws_vpc.net.id
  cidr_block = "10.50.1.0/24"
}

resource "aws_ec2_managed_prefix_list" "offices" {
  name           = "offices"
  address_family = "IPv4"
  max_entries    = 5
  entry {
    cidr        = "192.0.2.0/24"
    description = "one"
  }
  dynamic "entry" {
    for_each = var.port == 8080 ? [] : ["198.51.100.0/24"]
    content {
      cidr        = entry.value
      description = "two"
    }
  }
}

resource "aws_security_group" "web" {
  name   = "web"
  vpc_id = aws_vpc.net.id
  ingress {
    description      = "web"
    from_port        = var.port
    to_port          = var.port
    protocol         = "tcp"
    cidr_blocks      = ["10.0.0.0/8", "192.168.0.0/16"]
    ipv6_cidr_blocks = ["2001:db8::/32"]
  }
  ingress {
    from_port = 0
    to_port   = 0
    protocol  = "-1"
    self      = true
  }
  egress {
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
  }
  tags = { Team = var.team }
}

resource "aws_security_group" "db" {
  name        = "db"
  description = "Database"
  vpc_id      = aws_vpc.net.id
}

resource "aws_security_group_rule" "from_web" {
  type                     = "ingress"
  security_group_id        = aws_security_group.db.id
  source_security_group_id = aws_security_group.web.id
  protocol                 = "tcp"
  from_port                = 5432
  to_port                  = 5432
  description              = "from web"
}

resource "aws_security_group_rule" "from_offices" {
  type              = "ingress"
  security_group_id = aws_security_group.db.id
  prefix_list_ids   = [aws_ec2_managed_prefix_list.offices.id]
  protocol          = "icmp"
  from_port         = 8
  to_port           = 0
}

resource "aws_network_acl" "net" {
  vpc_id     = aws_vpc.net.id
  subnet_ids = [aws_subnet.net.id]
  ingress {
    rule_no    = 100
    action     = "allow"
    protocol   = "tcp"
    from_port  = var.port
    to_port    = var.port
    cidr_block = "10.0.0.0/8"
  }
  egress {
    rule_no    = 100
    action     = "allow"
    protocol   = "-1"
    from_port  = 0
    to_port    = 0
    cidr_block = "0.0.0.0/0"
  }
}

resource "aws_network_interface" "guest" {
  count           = var.interface ? 1 : 0
  subnet_id       = aws_subnet.net.id
  security_groups = [aws_security_group.web.id]
  description     = "made by Terraform"
}

data "aws_vpc" "default" {
  default = true
}

output "groups" {
  value = { web = aws_security_group.web.id, db = aws_security_group.db.id }
}
